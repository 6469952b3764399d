"""All Kafka APIs that this node offers. ApiVersions, the dispatcher and the metrics read this table; nothing else lists APIs."""

from .dispatch import Api
from .handlers import (
    alter_partition_reassignments,
    api_versions,
    create_partitions,
    create_topics,
    delete_records,
    delete_topics,
    describe_cluster,
    describe_configs,
    elect_leaders,
    fetch,
    incremental_alter_configs,
    init_producer_id,
    list_offsets,
    list_partition_reassignments,
    metadata,
    offset_for_leader_epoch,
    produce,
    unregister_broker,
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
        elect_leaders.API,
        incremental_alter_configs.API,
        alter_partition_reassignments.API,
        list_partition_reassignments.API,
        describe_cluster.API,
        unregister_broker.API,
    )
}
