"""One partition a model. A thousand models are a thousand partitions of one graph, added without a restart."""

from dagster import DynamicPartitionsDefinition

models = DynamicPartitionsDefinition(name="models")
