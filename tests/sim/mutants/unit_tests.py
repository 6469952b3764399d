"""What the judge `unit` asks, one test for each of its seeds: each puts one part into the very situation."""

UNIT_TESTS = (
    "partitions/test_replica.py::test_unanswered_proposal_goes_on_counting",
    "partitions/test_replica.py::test_follower_counts_only_after_its_log_matched",
    "partitions/test_partition.py::test_truncation_during_a_flush_limits_what_it_proves",
    "partitions/test_log.py::test_damage_below_the_checkpoint_is_reported_and_nothing_is_cut",
    "metadata/test_isr.py::test_what_does_not_fit_is_refused_alone",
    "node/test_replication_streams.py::test_every_beginning_has_a_handle_of_its_own",
    "coordinators/test_offsets.py::test_only_members_of_the_generation_commit_for_a_group_that_has_some",
    "coordinators/test_consumer_scripts.py::test_a_conversation[basic]",
    "partitions/test_compaction_crashes.py::test_a_power_cut_while_names_change_takes_no_part_of_the_explanation",
    "partitions/test_transactions.py::test_what_is_stable_and_aborted_survives_everything",
    "partitions/test_transactions.py::test_nobody_begins_without_the_coordinators_word",
    "node/test_produce_verified.py::test_a_batch_whose_leader_goes_before_its_answer_is_not_acknowledged",
    "partitions/test_dedup.py::test_an_id_goes_with_its_record_and_none_below_the_cut_does",
)
