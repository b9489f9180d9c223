ARG BASE
FROM ${BASE}
COPY registry /bin/registry
COPY entrypoint.sh /entrypoint.sh
COPY config.yml /etc/distribution/config.yml
ENV OTEL_TRACES_EXPORTER=none
VOLUME /var/lib/registry
EXPOSE 5000
ENTRYPOINT ["/entrypoint.sh"]
CMD ["/etc/distribution/config.yml"]
