"""The stages of a run, as the command line and the demo use them: each takes values and returns what it measured."""

from hw_targets.app.stages.chip import (
    Mapped,
    emulated_accuracy,
    example_input,
    map_network,
    model_input,
    read_network,
    steps_of,
    to_chip,
    to_network,
)
from hw_targets.app.stages.data import (
    CALIBRATION_IMAGES,
    calibration_images,
    check_unit_range,
    chip_images,
    first_samples,
    lava_images,
    load_data,
    network_input,
)
from hw_targets.app.stages.measures import (
    core_limits,
    core_usage,
    layer_rows,
    layer_table,
    mapping_summary,
    measure_synops,
    weight_rows,
)
from hw_targets.app.stages.training import Trained, available_device, train_dense_and_pruned, train_recipe

__all__ = [
    "CALIBRATION_IMAGES",
    "Mapped",
    "Trained",
    "available_device",
    "calibration_images",
    "check_unit_range",
    "chip_images",
    "core_limits",
    "core_usage",
    "emulated_accuracy",
    "example_input",
    "first_samples",
    "lava_images",
    "layer_rows",
    "layer_table",
    "load_data",
    "map_network",
    "mapping_summary",
    "measure_synops",
    "model_input",
    "network_input",
    "read_network",
    "steps_of",
    "to_chip",
    "to_network",
    "train_dense_and_pruned",
    "train_recipe",
    "weight_rows",
]
