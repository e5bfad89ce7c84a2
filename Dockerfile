# The page, the JSON API and the Open Inference Protocol in a container: docs/serving.md.
#   docker build --tag fmnist . && docker run --publish 127.0.0.1:8000:8000 \
#     --env FMNIST_SERVE_TOKEN --read-only --tmpfs /tmp --cap-drop ALL \
#     --security-opt no-new-privileges fmnist

FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY src src
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .
# Into an environment without pip; no dependency's own code is run to install it.
RUN python -m venv --without-pip /opt/fmnist \
    && set -- /wheels/fmnist-*.whl \
    && python -m pip --python /opt/fmnist/bin/python install --no-cache-dir --only-binary :all: \
        --constraint constraints.txt "$1[serve]"

FROM python:3.13-slim
LABEL org.opencontainers.image.title="fmnist" \
      org.opencontainers.image.description="The Fashion-MNIST classifier as a web page and a server" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/fmnist /opt/fmnist
# Other machines can ask, so that the server stops at once where neither FMNIST_SERVE_TOKEN nor
# FMNIST_SERVE_TOKEN_FILE is set.
ENV PATH=/opt/fmnist/bin:$PATH \
    HOME=/nonexistent \
    PYTHONDONTWRITEBYTECODE=1 \
    FMNIST_OFFLINE=1 \
    FMNIST_SERVE_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ.get('FMNIST_SERVE_PORT', '8000')), timeout=2); c.request('GET', '/v2/health/ready'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["fmnist", "serve"]
