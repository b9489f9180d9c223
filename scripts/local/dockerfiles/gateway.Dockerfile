# The one door from outside: nginx before the registry and before git-http-backend (see nginx.conf).
ARG BASE
FROM ${BASE}
RUN apt-install git nginx-light fcgiwrap spawn-fcgi
COPY gateway/nginx.conf /etc/nginx/nginx.conf
COPY gateway/update-hook gateway/start /usr/local/bin/
CMD ["start"]
