#!/usr/bin/env bash
# Runs what depends most on the libraries, on the lowest and the newest versions that pyproject.toml
# allows, each in an environment of its own under WORK (default .versions).
#
#   scripts/test_versions.sh                                # each Python of 3.11 to 3.13 that is here
#   PYTHONS="python3.12" RESOLUTIONS=highest scripts/test_versions.sh
#
# torch is what pip takes for TORCH, the same in all: its lowest has no build for newer Pythons, and
# is several gigabytes where there is only one for GPUs.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${WORK:-.versions}
torch=${TORCH:-torch==2.13.0}
tests="tests/assets tests/backbones/test_configuration.py tests/backbones/test_text.py
    tests/concept tests/test_reference.py tests/test_end_to_end.py tests/test_trainer.py"
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

run() { # PYTHON RESOLUTION
    local environment="$work/$2-$1"
    echo "== $1, $2"
    test -x "$environment/bin/python" || "$1" -m venv "$environment"
    "$environment/bin/python" -m pip install --quiet $torch uv
    "$environment/bin/python" -c 'from importlib.metadata import version
print("torch==" + version("torch").partition("+")[0])' >"$environment/torch.txt"
    # pytest is not the project's: its lowest versions are of no interest. uv does not install
    # editables, which only the built package asks for.
    "$environment/bin/uv" pip install --quiet --python "$environment" \
        --resolution "$2" --overrides "$environment/torch.txt" \
        -e '.[imagenet]' 'editables>=0.5' 'pytest>=9' 'pytest-xdist>=3.6'
    "$environment/bin/uv" pip list --quiet --python "$environment" |
        grep -E '^(diffusers|hydra-core|lightning|numpy|peft|safetensors|torch|transformers) '
    "$environment/bin/python" -m pytest -n 2 -p no:cacheprovider $tests
}

found=0
for python in ${PYTHONS:-python3.11 python3.12 python3.13}; do
    "$python" --version >/dev/null 2>&1 || continue
    found=1
    for resolution in ${RESOLUTIONS:-lowest-direct highest}; do
        # The lowest numpy, pyarrow and others have builds for the lowest Python only.
        if [ "$resolution" = lowest-direct ] && [ "$("$python" -c 'import sys; print(sys.version_info[1])')" != 11 ]; then
            continue
        fi
        run "$python" "$resolution"
    done
done
test "$found" = 1 || { echo "none of these is here: ${PYTHONS:-python3.11 python3.12 python3.13}" >&2; exit 2; }
