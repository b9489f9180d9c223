ARG BASE
FROM ${BASE}
RUN apt-install python3-minimal libpython3-stdlib python3-distutils
