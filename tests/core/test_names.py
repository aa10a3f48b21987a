"""Names of models, and Kubernetes names that cannot collide or be refused by a cluster."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_core.names import MODEL_NAME_PATTERN, is_model_name, kubernetes_name, why_no_model

NAMES = st.from_regex(MODEL_NAME_PATTERN, fullmatch=True).filter(is_model_name)


@pytest.mark.parametrize("name", ["atlas-qa", "llama-3.1-8b", "a", "0", "a.b.c", "a" * 63])
def test_a_model_name_may_hold_dots(name):
    assert is_model_name(name)


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a.", "a.-b", "a/b", "a\n", "a" * 64, "ä"])
def test_another_name_is_refused(name):
    assert not is_model_name(name)


@settings(deadline=None)
@given(NAMES, st.integers(12, 63))
def test_a_kubernetes_name_is_a_dns_1035_label(name, length):
    label = kubernetes_name(name, length=length)
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", label) and len(label) <= length
    assert label == kubernetes_name(name, length=length)


@settings(deadline=None)
@given(NAMES, NAMES)
def test_two_models_never_share_a_kubernetes_name(one, other):
    assert (kubernetes_name(one) == kubernetes_name(other)) == (one == other)


def test_names_that_differ_in_a_dot_stay_apart():
    derived = kubernetes_name("a.b")
    names = ["a.b", "a-b", "a", "3a", "m-3a", derived, kubernetes_name("a.b", "c")]
    labels = [kubernetes_name(name) for name in names] + [kubernetes_name("a", "b"), kubernetes_name("a-b", "")]
    assert len(set(labels)) == len(labels)
    assert kubernetes_name("atlas-qa") == "atlas-qa"


@pytest.mark.parametrize("folder", ["caf\udce9", "a" * 70, "Odd Name", "ünï", "new\nline", "\x1b[31mred"])
def test_a_folder_that_can_be_no_model_was_shown_as_it_is(folder: str) -> None:
    said = why_no_model(folder)
    assert said.endswith("is no name of a model; rename the folder") and said.isascii() and said.isprintable()
    assert why_no_model("llama-3.1-8b") == ""
