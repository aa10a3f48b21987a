#!/bin/sh
# A release is pinned to a commit, so a pod that opens the platform needs a clone: it is made where there is none yet.
# LLMOPS_ORIGIN is the repository's address and LLMOPS_BRANCH the environment's branch; without an origin (webserver,
# daemon, MLflow) nothing is cloned. The rename comes last: a pod killed while cloning leaves no half of a repository.
set -eu
if [ -n "${LLMOPS_ORIGIN:-}" ] && [ ! -e "$LLMOPS_REPOSITORY/.git" ]; then
  half=$(mktemp -d "$LLMOPS_REPOSITORY.XXXXXX")
  git clone --quiet --branch "$LLMOPS_BRANCH" -- "$LLMOPS_ORIGIN" "$half"
  # another container of the pod may have been first; -T refuses to move into its folder
  mv -T "$half" "$LLMOPS_REPOSITORY" 2>/dev/null || { rm -rf "$half" && test -e "$LLMOPS_REPOSITORY/.git"; }
fi
exec "$@"
