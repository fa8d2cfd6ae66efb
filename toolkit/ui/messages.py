"""What the API says of jobs and events: plain values for JSON."""

import threading
from base64 import b64encode
from typing import Any

from toolkit.ui.events import Begun, Event, Finished, Measured, Sampled
from toolkit.ui.jobs import Job


def job_values(job: Job) -> dict[str, Any]:
    """A job; its pictures' `image` is an address."""
    return {
        "id": job.id,
        "kind": job.order.kind,
        "title": job.order.title,
        "state": job.state,
        "over": job.state.is_over,
        "error": job.error,
        "submitted": job.submitted,
        "started": job.started,
        "ended": job.ended,
        "pictures": [_picture(one) for one in job.pictures],
        "layout": job.order.layout,
        "arguments": list(job.order.arguments),
    }


def job_message(job: Job) -> dict[str, Any]:
    """A job that changed."""
    return {"event": "job", "job": job.id, "value": job_values(job)}


def event_message(job: str, event: Event) -> dict[str, Any] | None:
    """What the worker told; None for what the job itself says."""
    value: dict[str, Any]
    if isinstance(event, Begun):
        return {"event": "begun", "job": job, "value": {"seed": event.seed}}
    if isinstance(event, Sampled):
        value = {
            "seed": event.seed,
            "step": event.step,
            "steps": event.steps,
            "losses": dict(event.losses),
            "preview": _inline(event.preview),
            "maps": [_inline(one) for one in event.maps],
        }
        return {"event": "step", "job": job, "value": value}
    if isinstance(event, Measured):
        grids = [address(one) for one in event.grids]
        value = {"step": event.step, "steps": event.steps, "loss": event.loss, "grids": grids}
        return {"event": "training", "job": job, "value": value}
    if isinstance(event, Finished):
        return {"event": "picture", "job": job, "value": _picture(event)}
    return None


class Recent:
    """What a page that opens now has missed of the picture that is being made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: list[dict[str, Any]] = []

    def add(self, message: dict[str, Any]) -> None:
        """Keep a message; of previews only the last."""
        with self._lock:
            if message["event"] != "step":
                self._messages = [message] if message["event"] in ("begun", "training") else []
                return
            if message["value"]["preview"]:
                for earlier in self._messages:
                    if earlier["event"] == "step":
                        earlier["value"] |= {"preview": "", "maps": []}
            self._messages.append(message)

    def listed(self) -> list[dict[str, Any]]:
        """The messages, the oldest first."""
        with self._lock:
            return [{**one, "value": dict(one["value"])} for one in self._messages]


def address(path: str) -> str:
    """Where a file of the output folder lies."""
    return f"/files/{path}"


def _picture(one: Finished) -> dict[str, Any]:
    image = address(one.image) if one.image else ""
    return {"seed": one.seed, "image": image, "error": one.error, "seconds": one.seconds}


def _inline(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode()}" if png else ""
