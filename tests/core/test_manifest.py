"""The manifest names every byte: two sets of files never share a digest, and a changed manifest never parses."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.errors import InputError, IntegrityError
from llmops_core.fingerprint import digest_of_bytes
from llmops_core.manifest import MANIFEST, FileEntry, Manifest, differences, manifest_of, read_manifest

DIGESTS = st.text(alphabet="0123456789abcdef", min_size=64, max_size=64)
NAMES = st.text(alphabet="abc./é", min_size=1, max_size=8)
ENTRIES = st.lists(st.builds(FileEntry, NAMES, DIGESTS, st.integers(0, 2**40)), min_size=1, max_size=5)
A = FileEntry("a.txt", "0" * 64, 1)
B = FileEntry("b/c.txt", "1" * 64, 2)


@given(ENTRIES, st.randoms())
def test_the_digest_depends_on_the_files_and_not_on_their_order(entries, random):
    try:
        manifest = manifest_of("weights", entries)
    except InputError:
        return
    shuffled = list(entries)
    random.shuffle(shuffled)
    assert manifest_of("weights", shuffled).digest == manifest.digest
    assert read_manifest(manifest.content(), "weights", manifest.digest) == manifest
    other = [replace(entries[0], size_bytes=entries[0].size_bytes + 1), *entries[1:]]
    assert manifest_of("weights", other).digest != manifest.digest
    assert manifest_of("base_weights", entries).digest != manifest.digest


@given(ENTRIES, st.data())
def test_a_changed_byte_of_the_manifest_is_found(entries, data):
    try:
        content = bytearray(manifest_of("weights", entries).content())
    except InputError:
        return
    digest = digest_of_bytes(bytes(content))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(IntegrityError, match="was changed"):
        read_manifest(bytes(content), "weights", digest)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"kind":3,"files":[]}',
        b'{"kind":"weights","files":[{"path":"../a","sha256":"%s","size_bytes":1}]}' % (b"0" * 64),
        b'{"kind":"weights","files":[{"path":"a","sha256":"0","size_bytes":1}]}',
        b'{"kind":"weights","files":[{"path":"a","sha256":"%s","size_bytes":true}]}' % (b"0" * 64),
        json.dumps({"kind": "weights", "files": [], "more": 1}, separators=(",", ":")).encode(),
        json.dumps(json.loads(manifest_of("weights", [A]).content()), indent=1).encode(),
        manifest_of("dataset", [A]).content(),
    ],
)
def test_what_hashes_right_but_is_no_manifest_is_refused(content):
    with pytest.raises(IntegrityError, match=r"no manifest|not the canonical"):
        read_manifest(content, "weights", digest_of_bytes(content))


@pytest.mark.parametrize(
    "entries", [[], [A, A], [A, replace(B, path="a.txt/x")], [replace(A, path=MANIFEST)], [replace(A, path="../a")]]
)
def test_what_cannot_be_an_artefact(entries):
    with pytest.raises(InputError):
        manifest_of("weights", entries)


@pytest.mark.parametrize("kind", ["", "..", "a/b", "A", "1a", "a-b", "a\n", "x" * 64])
def test_kinds_that_are_no_folder_names(kind):
    with pytest.raises(InputError, match="is no kind"):
        manifest_of(kind, [A])


def test_each_difference_is_named():
    manifest: Manifest = manifest_of("weights", [A, B])
    assert differences(manifest, [B, A]) == []
    found = [replace(A, sha256="2" * 64, size_bytes=9), FileEntry("x", "0" * 64, 0)]
    assert differences(manifest, found) == [
        "a.txt was changed: 222222222222… (9 bytes) instead of 000000000000… (1 bytes)",
        "b/c.txt is missing",
        "x was added",
    ]
    assert manifest.size_bytes == 3
