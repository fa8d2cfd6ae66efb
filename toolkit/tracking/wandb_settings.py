"""What of Weights & Biases can be wrong before anything is logged."""

import os

import wandb
from pydantic import ValidationError

from toolkit.errors import InputError, one_line


def check_wandb() -> None:
    """Raise InputError for an environment variable that W&B refuses; an empty one is taken away.

    No server is asked. Values are not shown: they may be secret.
    """
    for name, value in list(os.environ.items()):
        if not name.startswith("WANDB_"):
            continue
        if not value:
            del os.environ[name]
            continue
        try:
            wandb.Settings().update_from_env_vars({name: value})
        except ValidationError as error:
            raise InputError(f"W&B refuses {name}: {error.errors()[0]['msg']}") from error
        except (wandb.Error, ValueError, TypeError) as error:
            raise InputError(f"W&B refuses {name}: {one_line(error)}") from error
