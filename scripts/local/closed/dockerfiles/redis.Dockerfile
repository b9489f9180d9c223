ARG BASE
FROM ${BASE}
RUN apt-install redis-server
USER 999
ENTRYPOINT ["redis-server"]
