"""The page in Chromium: drawn on, made, watched, reopened."""

import json
import re
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from ui_pages import PATIENCE, open_page
from ui_server import Server, until

from toolkit.layout.files import read_layouts


def on_screen(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where a point of the canvas, in fractions of its width and height, is on the page."""
    box = page.locator("#canvas").bounding_box()
    layout = drawn(page)["layout"]
    assert box is not None
    scale = min((box["width"] - 24) / layout["width"], (box["height"] - 24) / layout["height"])
    width, height = layout["width"] * scale, layout["height"] * scale
    left = box["x"] + (box["width"] - width) / 2
    top = box["y"] + (box["height"] - height) / 2
    return left + x * width, top + y * height


def drag(page: Page, x0: float, y0: float, x1: float, y1: float) -> None:
    """Drag over the canvas, between fractions of its width and height."""
    page.mouse.move(*on_screen(page, x0, y0))
    page.mouse.down()
    page.mouse.move(*on_screen(page, (x0 + x1) / 2, (y0 + y1) / 2))
    page.mouse.move(*on_screen(page, x1, y1))
    page.mouse.up()


def drawn(page: Page) -> dict[str, Any]:
    """What the page keeps of the drawing."""
    return dict(json.loads(page.evaluate("localStorage.getItem('toolkit-drawing')")))


def draw_pair(page: Page, name: str, steps: int = 4, seeds: str = "1") -> None:
    page.get_by_role("button", name="dog dog").click()
    drag(page, 0.02, 0.05, 0.3, 0.95)
    page.locator("#canvas").press("Escape")
    page.get_by_role("button", name="cat cat").click()
    drag(page, 0.5, 0.05, 0.98, 0.95)
    page.get_by_label("Name", exact=True).first.fill(name)
    page.locator("#prompt").fill("a dog and a cat")
    page.locator("#steps").fill(str(steps))
    page.locator("#seeds").fill(seeds)


def queued(page: Page, name: str, state: str) -> Any:
    return page.locator(f"#queue li[data-state={state}]").filter(has_text=f"{name}:").first


def test_two_regions_are_drawn_made_watched_stopped_and_made_again(
    page: Page, server: Server
) -> None:
    draw_pair(page, "first", steps=400, seeds="3")
    regions = drawn(page)["layout"]["regions"]
    assert [region["concept"] for region in regions] == ["dog", "cat"]
    assert all(
        abs(a - b) < 0.02 for a, b in zip(regions[0]["box"], [0.02, 0.05, 0.3, 0.95], strict=True)
    )
    expect(page.locator("#checks")).to_have_text(
        "Nothing is wrong with this layout.", timeout=PATIENCE
    )
    page.get_by_role("button", name="Make", exact=True).click()
    preview = page.locator("#preview")
    expect(preview).to_be_visible(timeout=PATIENCE)
    before = preview.get_attribute("src")
    page.wait_for_function("src => document.getElementById('preview').src !== src", arg=before)
    page.get_by_role("button", name="Stop first").click()
    expect(queued(page, "first", "stopped")).to_be_visible(timeout=PATIENCE)
    page.locator("#steps").fill("4")
    page.locator("#seeds").fill("1")
    page.get_by_role("button", name="Make", exact=True).click()
    expect(queued(page, "first", "done")).to_be_visible(timeout=PATIENCE)
    expect(preview).to_have_attribute("src", re.compile(r"/files/compose/balanced/first/0\.png"))


def test_attention_is_a_layer_over_the_preview(page: Page) -> None:
    draw_pair(page, "looked", steps=200)
    page.get_by_label("where each concept looks").check()
    page.get_by_role("button", name="Make", exact=True).click()
    expect(page.locator("#attention")).to_be_visible(timeout=PATIENCE)
    page.get_by_label("where each concept looks").uncheck()
    expect(page.locator("#attention")).to_be_hidden()
    page.get_by_role("button", name="Stop looked").click()
    expect(queued(page, "looked", "stopped")).to_be_visible(timeout=PATIENCE)


def test_a_results_layout_comes_back_and_so_does_a_dropped_pictures(
    page: Page, server: Server
) -> None:
    draw_pair(page, "kept")
    asked = drawn(page)["layout"]
    page.get_by_role("button", name="Make", exact=True).click()
    expect(queued(page, "kept", "done")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("button", name="New").click()
    page.get_by_role("tab", name="Results").click()
    page.get_by_role("button", name="Open kept, seed 0, balanced").click()
    expect(page.locator("#provenance")).to_contain_text("a dog and a cat")
    page.get_by_role("button", name="Put its layout on the canvas").click()
    expect(page.locator("#regions li")).to_have_count(2)
    assert drawn(page)["layout"]["regions"] == asked["regions"]
    page.get_by_role("button", name="New").click()
    expect(page.locator("#regions li")).to_have_count(0)
    png = server.folder / "outputs" / "compose" / "balanced" / "kept" / "0.png"
    drop(page, png)
    expect(page.locator("#regions li")).to_have_count(2)
    assert drawn(page)["layout"]["regions"] == asked["regions"]
    drop(page, server.folder / "outputs" / "layouts" / "kept.yaml")
    assert drawn(page)["layout"]["name"] == "kept"


def drop(page: Page, path: Path) -> None:
    """Drop a file on the page."""
    dropped = page.evaluate_handle(
        """([bytes, name]) => {
            const held = new DataTransfer();
            held.items.add(new File([new Uint8Array(bytes)], name));
            return held;
        }""",
        [list(path.read_bytes()), path.name],
    )
    page.dispatch_event("#canvas", "drop", {"dataTransfer": dropped})


def test_moves_and_resizes_are_undone_one_by_one(page: Page) -> None:
    draw_pair(page, "undone")
    start = drawn(page)["layout"]["regions"]
    drag(page, 0.16, 0.5, 0.2, 0.5)
    moved = drawn(page)["layout"]["regions"]
    assert moved[0]["box"][0] > start[0]["box"][0] + 0.02
    assert moved[1] == start[1]
    drag(page, 0.3 + 0.04, 0.5, 0.4, 0.5)
    resized = drawn(page)["layout"]["regions"]
    assert resized[0]["box"][2] > moved[0]["box"][2] + 0.02
    assert abs(resized[0]["box"][0] - moved[0]["box"][0]) < 0.005
    page.get_by_role("button", name="Undo").click()
    assert drawn(page)["layout"]["regions"] == moved
    page.keyboard.press("Control+z")
    assert drawn(page)["layout"]["regions"] == start
    page.keyboard.press("Control+Shift+z")
    assert drawn(page)["layout"]["regions"] == moved
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("#regions li")).to_have_count(1)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#regions li")).to_have_count(2)


def test_all_of_the_canvas_works_by_keyboard(page: Page) -> None:
    page.locator("#shelf button").filter(has_text="dog").focus()
    page.keyboard.press("Enter")
    page.locator("#canvas").focus()
    page.keyboard.press("n")
    (first,) = drawn(page)["layout"]["regions"]
    for key in ("ArrowLeft", "ArrowLeft", "Shift+ArrowRight"):
        page.keyboard.press(key)
    (then,) = drawn(page)["layout"]["regions"]
    assert round(then["box"][0] - first["box"][0], 3) == -0.02
    assert round(then["box"][2] - first["box"][2], 3) == -0.01
    page.keyboard.press("Control+d")
    page.keyboard.press("n")
    page.keyboard.press("[")
    assert [region.get("depth") for region in drawn(page)["layout"]["regions"]] == [None, None, 1]
    page.keyboard.press(".")
    assert drawn(page)["selected"] == 0
    page.keyboard.press("Delete")
    expect(page.locator("#regions li")).to_have_count(2)
    page.keyboard.press("Control+z")
    expect(page.locator("#regions li")).to_have_count(3)


def test_an_outline_is_drawn_moved_and_made(page: Page, server: Server) -> None:
    page.get_by_role("button", name="dog dog").click()
    page.locator("#tool").select_option("lasso")
    trace(page, [(0.1, 0.1), (0.6, 0.1), (0.6, 0.9), (0.1, 0.9)])
    (region,) = drawn(page)["layout"]["regions"]
    assert "box" not in region and len(region["polygon"]) > 8
    page.locator("#canvas").press("ArrowRight")
    (moved,) = drawn(page)["layout"]["regions"]
    assert round(moved["polygon"][0][0] - region["polygon"][0][0], 3) == 0.01
    page.get_by_label("Name", exact=True).first.fill("outlined")
    page.locator("#prompt").fill("a dog")
    page.locator("#steps").fill("2")
    page.get_by_role("button", name="Make", exact=True).click()
    expect(queued(page, "outlined", "done")).to_be_visible(timeout=PATIENCE)
    made = server.folder / "outputs" / "layouts" / "outlined.yaml"
    assert read_layouts([made])[0].regions[0].polygon


def trace(page: Page, corners: list[tuple[float, float]]) -> None:
    """Draw along corners, fractions of the canvas, without letting go."""
    points = [on_screen(page, *corner) for corner in corners]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=12)
    page.mouse.up()


def test_a_region_prompt_keeps_its_placeholder(page: Page) -> None:
    draw_pair(page, "named")
    prompt = page.locator("#region-prompt")
    prompt.fill("asleep")
    prompt.blur()
    assert drawn(page)["layout"]["regions"][1]["prompt"] == "<cat> asleep"
    page.locator("#region-concept").select_option("dog")
    assert drawn(page)["layout"]["regions"][1]["prompt"] == "<dog> asleep"


def test_warnings_come_while_one_draws(page: Page) -> None:
    draw_pair(page, "close")
    drag(page, 0.74, 0.5, 0.44, 0.5)
    expect(page.locator("#checks .odd")).to_contain_text("may blend", timeout=PATIENCE)


def test_two_pages_see_one_queue_and_a_reload_finds_it(
    page: Page, browser: Browser, server: Server
) -> None:
    other = browser.new_context().new_page()
    open_page(other, server)
    draw_pair(page, "shared", steps=400, seeds="2")
    page.get_by_role("button", name="Make", exact=True).click()
    expect(queued(other, "shared", "running")).to_be_visible(timeout=PATIENCE)
    expect(other.locator("#preview")).to_be_visible(timeout=PATIENCE)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert len(drawn(page)["layout"]["regions"]) == 2
    expect(queued(page, "shared", "running")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#preview")).to_be_visible(timeout=PATIENCE)
    other.get_by_role("button", name="Stop shared").click()
    expect(queued(page, "shared", "stopped")).to_be_visible(timeout=PATIENCE)
    other.context.close()


def test_yaml_and_command_are_shown(page: Page) -> None:
    draw_pair(page, "copied")
    page.get_by_role("button", name="Command").click()
    shown = page.locator("#text-shown")
    expect(shown).to_contain_text("toolkit compose layout=outputs/layouts/copied.yaml")
    page.get_by_role("button", name="Close").last.press("Escape")
    page.get_by_role("button", name="YAML").click()
    expect(shown).to_contain_text("concept: dog")


def test_a_concept_is_trained_from_files(page: Page, server: Server, tmp_path: Path) -> None:
    for number in range(2):
        Image.new("RGB", (64, 64), (200, 40 * number, 40)).save(tmp_path / f"{number}.png")
    (tmp_path / "0.txt").write_text("<rex> on a wall")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    page.get_by_role("tab", name="Train").click()
    page.get_by_label("Name", exact=True).last.fill("rex")
    page.locator("#train-class").fill("dog")
    page.locator("#train-steps").fill("2")
    page.locator("#train-files").set_input_files(sorted(tmp_path.iterdir()))
    expect(page.locator("#inventory")).to_contain_text("3 images, 1 captions")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#refused")).to_contain_text("broken.png")
    expect(page.locator("#training-text")).to_contain_text("train rex", timeout=PATIENCE)
    trained = server.folder / "outputs" / "concepts" / "tiny" / "rex.safetensors"
    until(trained.is_file, 240)
    page.get_by_role("tab", name="Draw").click()
    expect(page.locator("#shelf button").filter(has_text="rex")).to_be_visible(timeout=PATIENCE)


def test_a_dropped_folder_is_sorted_into_what_is_used_and_what_is_not(
    page: Page, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    for place in ("0.png", "1.png", "masks/0.png", "masks/7.png", "older/2.png"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), "tan").save(folder / place)
    (folder / "1.txt").write_text("<rex> on a wall")
    (folder / "9.txt").write_text("<rex> on grass")
    (folder / "notes.pdf").write_bytes(b"%PDF")
    page.get_by_role("tab", name="Train").click()
    drag_in(page, "#train", folder)
    expect(page.locator("#inventory")).to_have_text(
        "2 images, 1 captions, 1 masks; 4 files are not used"
    )
    said = sorted(page.locator("#unused li").all_text_contents())
    assert said == [
        "9.txt: there is no image 9",
        "masks/7.png: there is no image 7",
        "notes.pdf: neither an image nor a caption",
        "older/2.png: in a folder of its own, and only masks/ is taken along",
    ]
    page.get_by_label("Name", exact=True).last.fill("dropped")
    page.locator("#train-class").fill("dog")
    page.locator("#train-steps").fill("1")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#inventory")).to_have_text("4 files were taken", timeout=PATIENCE)
    page.get_by_role("tab", name="Draw").click()
    expect(page.locator("#shelf button").filter(has_text="dropped")).to_be_visible(timeout=240_000)


def drag_in(page: Page, place: str, path: Path) -> None:
    """Drag a file or folder of the disk onto the page, as a file manager does."""
    box = page.locator(place).bounding_box()
    assert box is not None
    devtools = page.context.new_cdp_session(page)
    carried = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    where = {"x": box["x"] + 9, "y": box["y"] + 9}
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "data": carried, **where})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_screen_reader_finds_nothing_serious(
    page: Page, scheme: Literal["light", "dark"]
) -> None:
    page.emulate_media(color_scheme=scheme)
    draw_pair(page, "read_aloud")
    page.get_by_role("button", name="Make", exact=True).click()
    expect(queued(page, "read_aloud", "done")).to_be_visible(timeout=PATIENCE)
    for view in ("Draw", "Results", "Train"):
        page.get_by_role("tab", name=view).click()
        check_with_axe(page, view)
    page.get_by_role("tab", name="Results").click()
    page.get_by_role("button", name="Open read_aloud, seed 0, balanced").click()
    expect(page.locator("#provenance")).to_contain_text("a dog and a cat")
    check_with_axe(page, "a picture")


def check_with_axe(page: Page, view: str) -> None:
    found = Axe().run(page).response["violations"]
    serious = [
        (one["id"], one["help"], [node["target"] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == [], view


def test_it_fits_a_telephone(browser: Browser, server: Server) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    small = context.new_page()
    open_page(small, server)
    wide = small.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390
    small.get_by_role("tab", name="Results").click()
    assert small.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()
