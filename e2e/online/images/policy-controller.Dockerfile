FROM scratch
COPY policy-controller /ko-app/policy-controller
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/ko-app KO_DATA_PATH=/var/run/ko
USER 65532
ENTRYPOINT ["/ko-app/policy-controller"]
