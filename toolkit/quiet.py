"""Keep the libraries' chatter out of a person's terminal; errors still come through."""

import logging
import os
import warnings


def quiet_libraries() -> None:
    """Silence advice and loading bars of transformers, diffusers, Lightning and bitsandbytes.

    Call it before they are imported: some of it is said on import. A verbosity that the person set
    in the environment holds.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft imports it where it is
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", category=DeprecationWarning)

    import lightning.pytorch  # noqa: F401  (sets the level of its own loggers on import)
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Says which of several processes died, before it ends the others.
    logging.getLogger("lightning.fabric.strategies.launchers").setLevel(logging.INFO)
