"""The blind page's API: pictures without their names, and answers."""

import io
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from toolkit.config import RateConfig
from toolkit.evaluation.ratings import BEST, RATINGS
from toolkit.files import check_writable
from toolkit.names import check_name
from toolkit.ui.app import PAGE
from toolkit.ui.guard import Guard
from toolkit.ui.rating import Ratings, cases_of
from toolkit.ui.sentences import add_errors
from toolkit.ui.shelf import picture_of

Rater = Annotated[str, Query(pattern=r"^[0-9a-f]{16}$")]
_REFERENCES = 4
"""Pictures of each concept, at most."""


class Answer(BaseModel):
    """What one person says of one picture."""

    model_config = ConfigDict(extra="forbid")

    rater: str = Field(pattern=r"^[0-9a-f]{16}$", description="a random word, nobody's name")
    case: int = Field(ge=0)
    place: int = Field(ge=0)
    text: int = Field(ge=1, le=BEST, description="does it match the text?")
    subjects: int = Field(ge=1, le=BEST, description="does it look like the subjects?")


def make_rating_app(config: RateConfig, token: str | None = None) -> Guard:
    """The application. Raises InputError when there is nothing to rate."""
    folder = config.output_dir / "evaluation"
    check_writable(folder)
    cases = cases_of(config.output_dir, config.methods, config.layouts, config.pictures)
    ratings = Ratings(folder / RATINGS, cases)
    app = FastAPI(title="LoRA-Composer toolkit: ratings", docs_url=None, redoc_url=None)
    add_errors(app)

    @app.get("/api/rate/next")
    def next_case(rater: Rater) -> dict[str, Any]:
        """The next case of a person, its pictures by place and not by method."""
        number = ratings.next_of(rater)
        done = sum(not ratings.left(rater, one) for one in range(len(cases)))
        if number is None:
            return {"case": None, "done": done, "cases": len(cases)}
        case = cases[number]
        return {
            "case": number,
            "done": done,
            "cases": len(cases),
            "prompt": case.prompt,
            "concepts": list(case.concepts),
            "left": ratings.left(rater, number),
            "pictures": len(case.pictures),
        }

    @app.get("/api/rate/pictures/{number}/{place}", response_class=Response)
    def picture(number: int, place: int, rater: Rater) -> Response:
        """A picture, without what it says itself of how it was made."""
        if not (0 <= number < len(cases) and 0 <= place < len(cases[number].pictures)):
            raise HTTPException(404, "there is no such picture")
        path = cases[number].pictures[ratings.order(rater, number)[place]]
        written = io.BytesIO()
        with Image.open(path) as image:
            image.convert("RGB").save(written, "PNG")
        return Response(written.getvalue(), media_type="image/png")

    @app.get("/api/rate/references/{concept}/{number}", response_class=Response)
    def reference(concept: str, number: Annotated[int, Path(ge=0)]) -> Response:
        """One of the images that a concept was trained on."""
        check_name("concept", concept)
        found = None
        if number < _REFERENCES:
            found = picture_of(config.output_dir, config.model.name, concept, number)
        if found is None:
            raise HTTPException(404, f"there is no such picture of {concept}")
        return Response(found, media_type="image/png")

    @app.post("/api/rate", status_code=201)
    def rate(answer: Answer) -> dict[str, Any]:
        """Keep an answer."""
        number, place = answer.case, answer.place
        if number >= len(cases) or place >= len(cases[number].pictures):
            raise HTTPException(404, "there is no such picture")
        ratings.add(answer.rater, number, place, answer.text, answer.subjects)
        return {"left": ratings.left(answer.rater, number)}

    @app.get("/api/rate/summary")
    def summary() -> list[dict[str, Any]]:
        """Mean and 95 % interval of both questions, for each method."""
        return ratings.summary(config.resamples)

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(PAGE / "rate.html")

    app.mount("/", StaticFiles(directory=PAGE), name="page")
    return Guard(app, config.host, token)
