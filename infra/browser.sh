#!/bin/sh
# The tests look at the pages in a real browser. Root on Debian gets one here; others install Chromium or Chrome.
set -eu
for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then exit 0; fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium >/dev/null && exit 0
fi
echo "no Chromium or Chrome is installed: the tests that open a page are skipped" >&2
