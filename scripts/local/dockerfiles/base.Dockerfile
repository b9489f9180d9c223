# Debian with its newest updates: the security gate of stage fails for a package that has one pending.
ARG DEBIAN
FROM ${DEBIAN}
COPY apt-install /usr/local/bin/
# The week stands here so that a base that is older is made anew.
ARG WEEK
RUN echo "${WEEK}" > /etc/updated && apt-install --upgrade
