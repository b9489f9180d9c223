# CPython as docker-library builds it: from source, into /usr/local, with pip. The source is the one that Debian keeps.
ARG BASE
FROM ${BASE} AS build
RUN sed -n 's/^deb /deb-src /p' /etc/apt/sources.list > /etc/apt/sources.list.d/source.list \
 && apt-install dpkg-dev gcc libc6-dev make xz-utils zlib1g-dev libssl-dev libffi-dev libbz2-dev liblzma-dev \
    libsqlite3-dev uuid-dev
WORKDIR /source
RUN apt-get update -qq && apt-get source -qq --download-only --tar-only python3.11 >/dev/null 2>&1 && tar xf python3.11_*.orig.tar.* --strip-components=1
RUN ./configure --prefix=/usr/local --enable-shared --without-static-libpython --with-ensurepip >/dev/null \
 && make -j"$(nproc)" >/dev/null 2>&1 && make install >/dev/null \
 && find /usr/local -depth \( -type d -a \( -name test -o -name tests -o -name idle_test \) \) -exec rm -rf {} + \
 && rm /usr/local/bin/apt-install

FROM ${BASE}
RUN apt-install ca-certificates netbase tzdata zlib1g libssl3 libffi8 libbz2-1.0 liblzma5 libsqlite3-0 libuuid1 \
 && rm /usr/local/bin/apt-install
COPY --from=build /usr/local /usr/local
RUN ldconfig && for name in python pip; do ln -sf ${name}3 /usr/local/bin/${name}; done \
 && pip3 install --quiet --no-index --find-links /usr/local/lib/python3.11/ensurepip/_bundled pip setuptools
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 PYTHON_VERSION=3.11.2
CMD ["python3"]
