"""A zoo of one's own over https: registry and mirror, certificates, redirects, proxies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from decode_zoo.registry import write_registry
from tests.server import Server, certificate
from tests.test_store import CONTENT, FOLDER, REGISTRY

Call = Callable[..., tuple[object, str, str]]
HOST = "zoo.example"  # that no name server knows
FILES = [f"/good/{FOLDER}/{name}" for name in CONTENT]


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
def secure(files, tls):
    with Server(files, tls=tls[0]) as server:
        yield server


@pytest.fixture
def trusted(tls, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls[1]))


@pytest.fixture
def registered(tmp_path, files, monkeypatch):
    """The registry is at hand, and only the mirror is asked."""
    monkeypatch.setenv("DECODE_ZOO_REGISTRY", str(tmp_path / "registry.yaml"))


def targets(server):
    return [request.target for request in server.requests]


def fetched(call):
    """Fetch, and see that every byte is right."""
    code, out, err = call("fetch", "tissue-v1")
    assert (code, err) == (0, "")
    assert [Path(line).read_bytes() for line in out.split()] == list(CONTENT.values())


def refused(call, code=3):
    """Fail to fetch, with nothing in the cache, and say why."""
    found, out, err = call("fetch", "tissue-v1")
    assert (found, out) == (code, "")
    assert not call("cache", "ls")[1].splitlines()[1:]
    return err


# --- certificates --------------------------------------------------------------------


@pytest.mark.usefixtures("trusted")
def test_zoo_of_a_lab_with_its_own_authority_is_used(call, secure, monkeypatch):
    monkeypatch.setenv("DECODE_ZOO_REGISTRY", f"{secure.url}/good/registry.yaml")
    fetched(call)
    assert targets(secure) == ["/good/registry.yaml", *FILES]
    assert call("verify", "tissue-v1")[0] == 0


@pytest.mark.usefixtures("trusted", "registered")
@pytest.mark.parametrize("how", ["good", "moved"])
def test_https_mirror_with_its_own_authority_is_used(call, secure, monkeypatch, how):
    monkeypatch.setenv("DECODE_ZOO_MIRRORS", f"{secure.url}/{how}")
    fetched(call)
    assert targets(secure)[-1] == FILES[-1]


@pytest.mark.usefixtures("registered")
def test_authorities_in_openssls_variable_are_trusted(call, secure, tls, tmp_path, monkeypatch):
    monkeypatch.setenv("DECODE_ZOO_MIRRORS", f"{secure.url}/good")
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
    fetched(call)
    call("cache", "clean", "--all")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))  # comes first
    assert "none.pem" in refused(call)


@pytest.mark.fault
def test_registry_whose_certificate_nobody_vouches_for_is_refused(call, secure, monkeypatch):
    place = f"{secure.url}/good/registry.yaml"
    monkeypatch.setenv("DECODE_ZOO_REGISTRY", place)
    code, _, err = call("fetch", "tissue-v1")
    assert code == 3
    assert f"Could not fetch {place}: its certificate is not trusted (self" in err
    assert "REQUESTS_CA_BUNDLE" in err
    assert secure.requests == []


@pytest.mark.fault
@pytest.mark.usefixtures("registered")
def test_mirror_whose_certificate_nobody_vouches_for_is_refused(
    call, secure, tmp_path, monkeypatch
):
    monkeypatch.setenv("DECODE_ZOO_MIRRORS", f"{secure.url}/good")
    err = refused(call)
    assert f"{secure.url}{FILES[0]}: its certificate is not trusted (self" in err
    assert "REQUESTS_CA_BUNDLE" in err
    assert secure.requests == []
    with Server(CONTENT) as plain:
        monkeypatch.setenv("DECODE_ZOO_MIRRORS", f"{secure.url}/good,{plain.url}/good")
        fetched(call)


@pytest.mark.fault
@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("what", ["mirror", "registry"])
def test_certificate_of_another_host_is_refused(call, files, tls_of_host, monkeypatch, what):
    context, bundle = tls_of_host
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    with Server(files, tls=context) as server:
        if what == "mirror":
            monkeypatch.setenv("DECODE_ZOO_MIRRORS", f"{server.url}/good")
        else:
            monkeypatch.setenv("DECODE_ZOO_REGISTRY", f"{server.url}/good/registry.yaml")
        code, _, err = call("fetch", "tissue-v1")
        assert code == 3
        assert "its certificate is not trusted" in err
        assert "not valid for '127.0.0.1'" in err
        assert server.requests == []


# --- redirects -----------------------------------------------------------------------


@pytest.mark.fault
@pytest.mark.usefixtures("trusted", "registered")
@pytest.mark.parametrize("what", ["mirror", "registry"])
def test_redirect_from_https_to_http_is_refused(call, files, tls, monkeypatch, what):
    with Server(files) as plain, Server(files, tls=tls[0], elsewhere=plain.url) as first:
        if what == "mirror":
            monkeypatch.setenv("DECODE_ZOO_MIRRORS", f"{first.url}/elsewhere")
            expected = f"from https to http (redirected to {plain.url}{FILES[0]})"
        else:
            monkeypatch.setenv("DECODE_ZOO_REGISTRY", f"{first.url}/elsewhere/registry.yaml")
            expected = f"redirected to {plain.url}/good/registry.yaml"
        code, _, err = call("fetch", "tissue-v1")
        assert code == 3
        assert expected in err
        assert len(first.requests) == 1
        assert plain.requests == []


@pytest.mark.usefixtures("trusted", "registered")
def test_redirect_from_http_to_https_is_followed(call, secure, monkeypatch):
    with Server(CONTENT, elsewhere=secure.url) as plain:
        monkeypatch.setenv("DECODE_ZOO_MIRRORS", f"{plain.url}/elsewhere")
        fetched(call)
    assert targets(secure) == FILES


# --- proxies -------------------------------------------------------------------------


@pytest.fixture
def behind(files, tls_of_host, monkeypatch):
    """A server that only a proxy knows the way to, and the proxy; both are trusted."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls_of_host[1]))
    monkeypatch.setenv("DECODE_ZOO_REGISTRY", f"https://{HOST}/good/registry.yaml")
    with Server(files, tls=tls_of_host[0]) as server, Server({}, elsewhere=server.url) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        yield server, proxy


def test_https_goes_through_the_proxy_of_the_environment(call, behind):
    server, proxy = behind
    fetched(call)
    assert targets(proxy) == [f"{HOST}:443"] * 3
    assert targets(server) == ["/good/registry.yaml", *FILES]


@pytest.mark.fault
def test_proxy_that_puts_itself_in_between_is_refused(call, behind, secure):
    _, proxy = behind
    proxy.elsewhere = secure.url
    code, _, err = call("fetch", "tissue-v1")
    assert code == 3
    assert "its certificate is not trusted" in err
    assert targets(proxy) == [f"{HOST}:443"]
    assert secure.requests == []


@pytest.mark.fault
@pytest.mark.parametrize("what", ["mirror", "registry"])
def test_proxy_that_refuses_is_told(call, behind, tmp_path, monkeypatch, what):
    _, proxy = behind
    proxy.elsewhere = ""
    if what == "mirror":
        monkeypatch.setenv("DECODE_ZOO_REGISTRY", str(tmp_path / "registry.yaml"))
        monkeypatch.setenv("DECODE_ZOO_MIRRORS", f"https://{HOST}/good")
    code, _, err = call("fetch", "tissue-v1")
    assert code == 3
    assert "proxy" in err
    assert "403 Forbidden" in err
    assert set(targets(proxy)) == {f"{HOST}:443"}
