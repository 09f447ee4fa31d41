"""The stages of a run, in one place to import from; most are those of `hw_targets.app.stages`."""

from hw_targets.app.stages import (
    CALIBRATION_IMAGES,
    Mapped,
    Trained,
    available_device,
    calibration_images,
    check_unit_range,
    chip_images,
    core_usage,
    emulated_accuracy,
    lava_images,
    layer_table,
    load_data,
    map_network,
    measure_synops,
    model_input,
    to_chip,
    to_network,
    train_dense_and_pruned,
    train_recipe,
)
from hw_targets.emulation.emulate import emulate
from hw_targets.estimation import estimate
from hw_targets.placement import place

__all__ = [
    "CALIBRATION_IMAGES",
    "Mapped",
    "Trained",
    "available_device",
    "calibration_images",
    "check_unit_range",
    "chip_images",
    "core_usage",
    "emulate",
    "emulated_accuracy",
    "estimate",
    "lava_images",
    "layer_table",
    "load_data",
    "map_network",
    "measure_synops",
    "model_input",
    "place",
    "to_chip",
    "to_network",
    "train_dense_and_pruned",
    "train_recipe",
]
