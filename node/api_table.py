"""All Kafka APIs that this node offers. ApiVersions, the dispatcher and the metrics read this table; nothing else lists APIs."""

from .dispatch import Api
from .handlers import (
    api_versions,
    create_partitions,
    create_topics,
    delete_records,
    delete_topics,
    describe_cluster,
    describe_configs,
    fetch,
    incremental_alter_configs,
    init_producer_id,
    list_offsets,
    metadata,
    offset_for_leader_epoch,
    produce,
)

API_TABLE: dict[int, Api] = {
    api.key: api
    for api in (
        produce.API,
        fetch.API,
        list_offsets.API,
        metadata.API,
        api_versions.API,
        create_topics.API,
        delete_topics.API,
        delete_records.API,
        init_producer_id.API,
        offset_for_leader_epoch.API,
        describe_configs.API,
        create_partitions.API,
        incremental_alter_configs.API,
        describe_cluster.API,
    )
}
