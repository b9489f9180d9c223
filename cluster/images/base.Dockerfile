# A Debian, or an image on top of one, with its newest updates: the security suite fails for a package
# that has one pending.
ARG DEBIAN
FROM ${DEBIAN}
COPY apt-install /usr/local/bin/
# The week stands here so that an image that is older is made anew.
ARG WEEK
RUN echo "${WEEK}" > /etc/updated && apt-install --upgrade
