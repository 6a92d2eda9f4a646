"""A zoo of one's own over https: registry and mirror, certificates, redirects, proxies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from decode_zoo.zoo.registry import write_registry
from tests.server import Server, certificate
from tests.test_store import CONTENT, FOLDER, REGISTRY

HOST = "zoo.example"  # that no name server knows
FILES = [f"/good/{FOLDER}/{name}" for name in CONTENT]
REGISTERED = "/good/registry.yaml"


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_of_host(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls-of-host"), HOST)


@pytest.fixture
def files(tmp_path):
    """What the servers have: a registry, and what it lists."""
    path = tmp_path / "registry.yaml"
    write_registry(replace(REGISTRY, default_model=None), path)
    return {**CONTENT, path.name: path.read_bytes()}


@pytest.fixture
def secure(files, tls, monkeypatch):
    """A server that is trusted."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls[1]))
    with Server(files, tls=tls[0]) as server:
        yield server


@pytest.fixture
def use(tmp_path, files, monkeypatch):
    """Take a URL as registry, or as mirror with the registry at hand."""

    def use(what, url):
        place = f"{url}/registry.yaml" if what == "registry" else tmp_path / "registry.yaml"
        monkeypatch.setenv("DECODE_ZOO_REGISTRY", str(place))
        if what == "mirror":
            monkeypatch.setenv("DECODE_ZOO_MIRRORS", url)

    return use


either = pytest.mark.parametrize("what", ["mirror", "registry"])


def targets(server):
    return [request.target for request in server.requests]


def fetched(call):
    """Fetch, and see that every byte is right."""
    code, out, err = call("fetch", "tissue-v1")
    assert (code, err) == (0, "")
    assert [Path(line).read_bytes() for line in out.split()] == list(CONTENT.values())


def refused(call):
    code, out, err = call("fetch", "tissue-v1")
    assert (code, out) == (3, "")
    return err


@either
def test_zoo_of_a_lab_with_its_own_authority_is_used(call, secure, use, what):
    use(what, f"{secure.url}/moved")
    fetched(call)
    answered = [target for target in targets(secure) if "/good/" in target]
    assert answered == ([REGISTERED] if what == "registry" else []) + FILES


def test_authorities_in_openssls_variable_are_trusted(call, secure, use, tls, monkeypatch):
    use("mirror", f"{secure.url}/good")
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "none.pem")  # comes first
    assert "none.pem" in refused(call)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    fetched(call)


@pytest.mark.fault
@either
@pytest.mark.parametrize("whose", ["nobody", "another host"])
def test_certificate_that_nobody_vouches_for_is_refused(
    call, files, use, tls_of_host, monkeypatch, what, whose
):
    if whose == "another host":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls_of_host[1]))
    with Server(files, tls=tls_of_host[0]) as server, Server(CONTENT) as plain:
        use(what, f"{server.url}/good")
        err = refused(call)
        place = FILES[0] if what == "mirror" else REGISTERED
        assert f"{server.url}{place}: its certificate is not trusted (" in err
        assert ("self" if whose == "nobody" else "not valid for '127.0.0.1'") in err
        assert "REQUESTS_CA_BUNDLE" in err
        if what == "mirror":  # another one may have it
            use(what, f"{server.url}/good,{plain.url}/good")
            fetched(call)
        assert server.requests == []


@pytest.mark.fault
@either
def test_redirect_from_https_to_http_is_refused(call, secure, files, use, what):
    with Server(files) as plain:
        secure.elsewhere = plain.url
        use(what, f"{secure.url}/elsewhere")
        place = FILES[0] if what == "mirror" else REGISTERED
        assert f"from https to http (redirected to {plain.url}{place})" in refused(call)
        assert len(secure.requests) == 1
        assert plain.requests == []


def test_redirect_from_http_to_https_is_followed(call, secure, use):
    with Server(CONTENT, elsewhere=secure.url) as plain:
        use("mirror", f"{plain.url}/elsewhere")
        fetched(call)
    assert targets(secure) == FILES


# --- proxies -------------------------------------------------------------------------


@pytest.fixture
def behind(files, tls_of_host, monkeypatch):
    """A server that only a proxy knows the way to, and the proxy; both are trusted."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls_of_host[1]))
    with Server(files, tls=tls_of_host[0]) as server, Server({}, elsewhere=server.url) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        yield server, proxy


def test_https_goes_through_the_proxy_of_the_environment(call, behind, use):
    server, proxy = behind
    use("registry", f"https://{HOST}/good")
    fetched(call)
    assert targets(proxy) == [f"{HOST}:443"] * 3
    assert targets(server) == [REGISTERED, *FILES]


@pytest.mark.fault
@either
def test_proxy_that_refuses_is_named(call, behind, use, what):
    _, proxy = behind
    proxy.elsewhere = ""
    use(what, f"https://{HOST}/good")
    err = refused(call)
    assert "proxy" in err
    assert "403 Forbidden" in err
    assert set(targets(proxy)) == {f"{HOST}:443"}
