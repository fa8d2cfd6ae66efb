"""What the server has: its queue, its worker, and what it knows of the base."""

import asyncio
import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from toolkit.backbones.unet.configuration import read_configuration
from toolkit.config import TrainConfig, UiConfig, read_sample
from toolkit.files import check_writable
from toolkit.ui.broadcast import Broadcast
from toolkit.ui.device import Device
from toolkit.ui.events import Event
from toolkit.ui.jobs import Job, Jobs
from toolkit.ui.line import Line
from toolkit.ui.messages import Recent, event_message, job_message
from toolkit.ui.methods import offered
from toolkit.ui.orders import Kind, know_keys
from toolkit.ui.results import Results
from toolkit.ui.training import Trainings


class Studio:
    """All that requests share. base_values: what the page is told of the base."""

    def __init__(self, config: UiConfig, model_arguments: Sequence[str] = ()) -> None:
        """model_arguments: those that were typed to choose the base, for jobs to repeat.

        Raises InputError when nothing can be written to the output folder.
        """
        check_writable(config.output_dir)
        shutil.rmtree(config.output_dir / "ui" / "uploads", ignore_errors=True)  # a killed server's
        know_keys()
        self.config = config
        self.model_arguments = tuple(model_arguments)
        configuration = read_configuration(config.model.path)
        self._sizes = configuration and configuration.sizes(config.model.guidance_downscale)
        identity = configuration and configuration.identity(config.model.name, "float32")
        self.architecture = identity.architecture if identity else None
        self.base_values = self._base_values()  # at once: config files take long the first time
        self.methods = ThreadPoolExecutor(1).submit(offered, config.model.name)
        self.broadcast = Broadcast()
        self.recent = Recent()
        self.results = Results(config.output_dir)
        self.jobs = Jobs(config.output_dir / "ui" / "jobs.json", self._changed)
        self.device = Device(config.model)
        self.trainings = Trainings()
        self._line = Line(self.jobs, self.device, self.trainings, self._tell)

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin with the queue. loop: the server's."""
        self.broadcast.open(loop)
        self._line.start()

    def close(self) -> None:
        """End what runs, and the streams."""
        self.broadcast.close()
        self.jobs.close()
        self.trainings.close()
        self.device.close()

    def stop(self, job: Job) -> Job:
        """Stop a job, whether it waits or runs."""
        found = self.jobs.stop(job.id)
        if found is not None and not found.state.is_over:
            self._line.stop(found)
        return found or job

    def _base_values(self) -> dict[str, Any]:
        model = self.config.model
        sampling = read_sample(["concept=any", *self.model_arguments]).sampling
        sizes = self._sizes
        cell = sizes.pixels_per_latent * sizes.guidance_downscale if sizes else None
        return {
            "name": model.name,
            "width": model.width,
            "height": model.height,
            "multiple": sizes.size_multiple if sizes else 8,
            "cell": cell,
            "steps": sampling.steps,
            "guidance_scale": sampling.guidance_scale,
        }

    def check_training(self, config: TrainConfig) -> None:
        """Raise InputError for what is wrong with a training before it starts."""
        from toolkit.training.asked import check_asked

        check_asked(config)

    def _changed(self, job: Job) -> None:
        self.broadcast.send(job_message(job))
        if job.order.kind is Kind.IMPORT and job.state.is_over:
            Path(job.order.arguments[0]).unlink(missing_ok=True)

    def _tell(self, job: str, event: Event) -> None:
        message = event_message(job, event)
        if message is not None:
            self.recent.add(message)
            self.broadcast.send(json.loads(json.dumps(message)))
