ARG BASE
FROM ${BASE}
RUN groupadd -g 999 postgres && useradd -r -u 999 -g postgres -d /var/lib/postgresql postgres \
 && apt-install postgresql-15 \
 && rm -rf /var/lib/postgresql/15 /etc/postgresql/15
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin PGDATA=/var/lib/postgresql/data
COPY postgresql/entrypoint /usr/local/bin/entrypoint
USER 999
# Fast shutdown: plain SIGTERM would wait for the clients to leave.
STOPSIGNAL SIGINT
ENTRYPOINT ["entrypoint"]
CMD ["postgres"]
