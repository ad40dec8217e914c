# Serves a head or a model over HTTP; docs/commands/serve.md says how.
#   docker build --tag headstart .
#   docker run --rm --publish 8501:8501 --volume "$PWD/out/head:/model:ro" headstart
FROM python:3.12-slim AS build

# serve,cpu for heads on bases that Keras builds: 1.3 GB more.
ARG EXTRAS=serve

COPY . /src
WORKDIR /src
# The versions of the lock file, whose hashes are of other files than the one that is built here.
RUN python -m venv /opt/headstart \
    && sed -e '/^ *--hash/d' -e 's/ *\\$//' requirements.lock > /tmp/constraints.txt \
    && /opt/headstart/bin/pip install --no-cache-dir --constraint /tmp/constraints.txt ".[${EXTRAS}]"

FROM python:3.12-slim

COPY --from=build /opt/headstart /opt/headstart
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin headstart
ENV PATH=/opt/headstart/bin:$PATH \
    HEADSTART_CACHE=/tmp/headstart
USER 10001
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as http; http.urlopen('http://127.0.0.1:8501/readyz', timeout=4)"]
ENTRYPOINT ["headstart", "serve", "/model", "--host", "0.0.0.0"]
