"""What a person asks for: config groups and `key=value` overrides, read into typed values."""

from toolkit.config.commands import (
    read_compose,
    read_evaluate,
    read_export,
    read_import,
    read_sample,
    read_train,
)
from toolkit.config.schema import (
    ComposeConfig,
    ConceptConfig,
    EvaluateConfig,
    ExportConfig,
    Format,
    ImportConfig,
    LoggerConfig,
    ModelConfig,
    SampleConfig,
    SamplingConfig,
    TrainConfig,
    TrainerConfig,
    TrainingConfig,
)

__all__ = [
    "ComposeConfig",
    "ConceptConfig",
    "EvaluateConfig",
    "ExportConfig",
    "Format",
    "ImportConfig",
    "LoggerConfig",
    "ModelConfig",
    "SampleConfig",
    "SamplingConfig",
    "TrainConfig",
    "TrainerConfig",
    "TrainingConfig",
    "read_compose",
    "read_evaluate",
    "read_export",
    "read_import",
    "read_sample",
    "read_train",
]
