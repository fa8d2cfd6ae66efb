#!/usr/bin/env bash
# The first hour of a new user, from a wheel in an empty folder: each step is said, and checked.
#
#   scripts/first_hour.sh
#   PYTHON=python3.13 TORCH=torch==2.14.1 WORK=/tmp/hour STEPS=200 scripts/first_hour.sh
#
# PYTHON: which. TORCH: what pip takes for torch, first and by itself. PIP_ARGS: more for pip, such
# as another index. STEPS: of training; a few show that it works, 200 show the subject. WORK: an
# empty folder; left out, one is made and taken away.
set -euo pipefail
clone=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3.11}
torch=${TORCH:-torch==2.13.0}
steps=${STEPS:-4}
if [ -n "${WORK:-}" ]; then
    mkdir -p "$WORK"
    [ -z "$(ls -A "$WORK")" ] || { echo "$WORK is not empty" >&2; exit 2; }
    work=$(cd "$WORK" && pwd)
else
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
fi
quick="sampling.steps=4"

step() { printf '\n== %s\n' "$*"; }
say() { printf '$ %s\n' "$*"; }
must() { # CODE COMMAND...: the command ends with that exit code
    local wanted=$1 code=0
    shift
    say "$*"
    "$@" || code=$?
    [ "$code" = "$wanted" ] || { echo "ended with $code, not with $wanted" >&2; exit 1; }
}
there() { # FILE...
    for file in "$@"; do
        [ -s "$file" ] || { echo "no $file" >&2; exit 1; }
        echo "there: $file"
    done
}

step "The wheel, and an environment: $("$python" --version)"
cd "$work"
"$python" -m venv environment
pip() { environment/bin/python -m pip "$@" --quiet ${PIP_ARGS:-}; }
pip wheel --no-deps -w wheel "$clone"
pip install "$torch"
pip install wheel/*.whl
export PATH="$work/environment/bin:$PATH"
du -shL environment wheel
mkdir hour && cd hour
must 0 toolkit --version

step "Eight drawings of a subject of one's own: wide, tall, transparent, turned"
python - <<'PYTHON'
from pathlib import Path

from PIL import Image, ImageDraw

folder = Path("pictures/blip")
folder.mkdir(parents=True)
for number, size in enumerate([(160, 120), (120, 160), (200, 200), (128, 128)] * 2):
    mode = "RGBA" if number % 3 == 2 else "RGB"
    picture = Image.new(mode, size, (180, 210, 160, 0)[: len(mode)])
    draw = ImageDraw.Draw(picture)
    x, y = size[0] // 2, size[1] // 2
    draw.ellipse((x - 40, y - 40, x + 40, y + 40), fill="orange", outline="black", width=4)
    draw.polygon([(x - 10, y - 38), (x + 10, y - 38), (x, y - 58)], fill="purple")
    for eye in (x - 15, x + 15):
        draw.ellipse((eye - 6, y - 16, eye + 6, y - 4), fill="white", outline="black")
    orientation = Image.Exif()
    orientation[0x0112] = 6 if number == 5 else 1
    picture.save(folder / f"{number}.png", exif=orientation)
(folder / "0.txt").write_text("<blip> on the grass")
PYTHON
ls pictures/blip

step "Trained, and an example subject beside it"
must 0 toolkit train concept=blip concept.images=pictures/blip concept.class_word=robot \
    training.steps="$steps" training.sample_every_steps=0 trainer=cpu
must 0 toolkit train concept=cat training.steps="$steps" training.sample_every_steps=0 trainer=cpu
must 0 toolkit train concept=cat training.steps="$steps" training.sample_every_steps=0 trainer=cpu
must 0 toolkit sample concept=blip prompt="<blip> on the beach" $quick trainer=cpu

step "Two subjects in one picture, then without a part of the method: both pictures stay"
cat >two.yaml <<'YAML'
name: two
prompt: a robot and a cat on the grass
width: 256
height: 128
regions:
  - concept: blip
    prompt: <blip> on the grass
    box: [0.05, 0.15, 0.45, 0.95]
  - concept: cat
    prompt: <cat> on the grass
    box: [0.55, 0.15, 0.95, 0.95]
YAML
must 0 toolkit compose layout=two.yaml $quick trainer=cpu
before=$(sha256sum outputs/compose/lora_composer/two/0.png)
must 0 toolkit compose layout=two.yaml method.reinitialisation=false $quick trainer=cpu
[ "$before" = "$(sha256sum outputs/compose/lora_composer/two/0.png)" ]
ls outputs/compose
there outputs/compose/lora_composer/two/0.png outputs/compose/lora_composer/two/0.json \
    outputs/compose/lora_composer/two/0_attention.png outputs/compose/lora_composer/manifest.parquet

step "Mistakes: one line each, and nothing is started"
must 2 toolkit compose layout=tow.yaml
must 2 toolkit compose layout=two.yaml method.fil_loss=false
must 2 toolkit compose layout=two.yaml seeds=many
must 2 toolkit train concept=ghost concept.images=nowhere concept.class_word=dog
must 2 toolkit train concept=dog trainer.precision=fp16
must 2 toolkit sample concept=dog prompt="<dog>"
sed 's/0.45, 0.95/0.01, 1.95/' two.yaml >box.yaml
must 2 toolkit compose layout=box.yaml
must 2 toolkit export dog format=kohya
must 2 toolkit paint

step "Taken away: read by plain diffusers, and back again"
must 0 toolkit export blip format=diffusers
must 0 toolkit export cat format=diffusers
python - "$clone/docs/formats.md" <<'PYTHON'
import re
import sys
from pathlib import Path

snippets = re.findall(r"^```python\n(.*?)^```$", Path(sys.argv[1]).read_text(), re.M | re.S)
snippet = snippets[0]  # the next is for Stable Diffusion XL
exec(snippet.replace("dog", "cat").replace("num_inference_steps=25", "num_inference_steps=4"))
PYTHON
there cat.png
must 0 toolkit import outputs/exports/mini/blip_diffusers.safetensors concept=back class_word=robot
must 0 toolkit sample concept=back prompt="<back> on the grass" $quick trainer=cpu

step "A batch, of which two lines cannot be made"
{
    echo '{"name": "n1", "prompt": "a cat", "width": 128, "height": 128, "regions": [{"concept": "cat", "prompt": "<cat>", "box": [0.1, 0.1, 0.9, 0.9]}]}'
    echo 'not JSON'
    echo '{"name": "n2", "prompt": "a cat", "width": 100, "height": 128, "regions": []}'
    echo '{"name": "n3", "prompt": "a robot", "width": 128, "height": 128, "regions": [{"concept": "blip", "prompt": "<blip>", "box": [0.1, 0.1, 0.9, 0.9]}]}'
} >night.jsonl
must 1 toolkit compose layouts=night.jsonl $quick trainer=cpu
there outputs/compose/lora_composer/n1/0.png outputs/compose/lora_composer/n3/0.png
[ "$(wc -l <outputs/compose/lora_composer/failures.jsonl)" = 2 ]
must 2 toolkit compose layouts=night.jsonl strict=true $quick trainer=cpu

step "Evaluated"
must 0 toolkit train concept=dog training.steps="$steps" training.sample_every_steps=0 trainer=cpu
must 0 toolkit evaluate layout=scene1 methods=prompt_only,merge $quick trainer=cpu
find outputs/evaluation -type f | head

step "Ctrl-C, and on where it was"
say "toolkit compose layouts=many.jsonl seeds=6, interrupted after its first picture"
head -n 1 night.jsonl | sed 's/"n1"/"m1"/' >many.jsonl
python - $quick <<'PYTHON'
import signal
import subprocess
import sys
import time
from pathlib import Path

command = ["toolkit", "compose", "layouts=many.jsonl", "seeds=6", "trainer=cpu", *sys.argv[1:]]
first = Path("outputs/compose/lora_composer/m1/0.json")
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what runs in the background
running = subprocess.Popen(command)
while running.poll() is None and not first.exists():
    time.sleep(0.05)
running.send_signal(signal.SIGINT)
code = running.wait()
made = len(list(first.parent.glob("[0-9].json")))
print(f"ended with {code}, {made} of 6 pictures made")
sys.exit(0 if code == 130 and 1 <= made < 6 else 1)
PYTHON
must 0 toolkit compose layouts=many.jsonl seeds=6 $quick trainer=cpu
[ "$(ls outputs/compose/lora_composer/m1/?.json | wc -l)" = 6 ]

step "All done; what is on the disk"
du -sh outputs
