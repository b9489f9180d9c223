# The one door from outside: nginx before the registry and before git-http-backend (see nginx.conf).
ARG BASE
FROM ${BASE}
RUN apt-install git nginx-light libnginx-mod-http-js fcgiwrap spawn-fcgi
COPY gateway/nginx.conf gateway/guard.js /etc/nginx/
COPY gateway/update-hook gateway/start /usr/local/bin/
CMD ["start"]
