ARG DEBIAN
FROM ${DEBIAN}
COPY apt-install /usr/local/bin/
