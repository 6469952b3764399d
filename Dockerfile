# One quorumlog node. Its settings are environment variables, QUORUMLOG_<SETTING>; docker-compose.yml shows a cluster of three.
# Where no image registry can be reached, BASE_IMAGE may be any Debian 12 image with Python 3.11 and its venv module.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /src
RUN python -m venv /opt/quorumlog
ENV PATH=/opt/quorumlog/bin:$PATH
# The dependencies make a layer of their own: a change of our code does not download them again.
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > requirements.txt \
    && pip install --no-cache-dir --disable-pip-version-check --use-pep517 -c constraints.txt -r requirements.txt
COPY . .
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps .

FROM ${BASE_IMAGE}
# Named volumes inherit the owner of the directories that they cover.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin quorumlog \
    && install -d -o quorumlog -m 0700 /certs /var/lib/quorumlog
COPY --from=build /opt/quorumlog /opt/quorumlog
ENV PATH=/opt/quorumlog/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    QUORUMLOG_DATA_DIR=/var/lib/quorumlog \
    QUORUMLOG_CERTS_DIR=/certs \
    QUORUMLOG_HTTP_LISTEN=0.0.0.0:9292
USER quorumlog
VOLUME ["/var/lib/quorumlog"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=4s --start-period=15s --retries=3 CMD ["python", "-c", "\
import os, urllib.request; \
port = os.environ['QUORUMLOG_HTTP_LISTEN'].rpartition(':')[2]; \
urllib.request.urlopen(f'http://127.0.0.1:{port}/readyz', timeout=3)"]
COPY container.sh /opt/quorumlog/container.sh
CMD ["sh", "/opt/quorumlog/container.sh"]
