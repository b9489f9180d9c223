ARG BASE
FROM ${BASE}
RUN groupadd -r -g 999 redis && useradd -r -g redis -u 999 redis && apt-install redis-server gosu \
 && mkdir -p /data && chown redis:redis /data && rm /usr/local/bin/apt-install
COPY docker-entrypoint.sh /usr/local/bin/
WORKDIR /data
VOLUME /data
ENTRYPOINT ["docker-entrypoint.sh"]
EXPOSE 6379
CMD ["redis-server"]
