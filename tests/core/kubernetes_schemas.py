"""Strict judgement of manifests without a cluster: a kind without a schema fails, and so does an unknown field."""

from typing import Any

import kubernetes_validate
from kubeflow_trainer_api.models.trainer_v1alpha1_train_job import TrainerV1alpha1TrainJob
from kubeflow_trainer_api.models.trainer_v1alpha1_training_runtime import TrainerV1alpha1TrainingRuntime

from tests.deploy import custom_kinds

VERSION = "1.36"
OF_THE_TRAINER: dict[str, Any] = {
    "TrainJob": TrainerV1alpha1TrainJob,
    "TrainingRuntime": TrainerV1alpha1TrainingRuntime,
}


def check(manifest: dict[str, Any]) -> None:
    """Raises for whatever the API server would refuse by its schemas, with field_validation=Strict."""
    if manifest["kind"] in OF_THE_TRAINER:
        assert manifest["apiVersion"] == "trainer.kubeflow.org/v1alpha1"
        read = OF_THE_TRAINER[manifest["kind"]].from_dict(manifest)
        assert read is not None and read.to_dict() == manifest, "a field is unknown to the published models"
        return
    if (manifest["apiVersion"], manifest["kind"]) in custom_kinds.KINDS:
        custom_kinds.check(manifest)
        return
    kubernetes_validate.validate(manifest, VERSION, strict=True)
