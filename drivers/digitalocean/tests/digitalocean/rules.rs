//! What holds for every cloud.

convoy_cloud_lab::rule_tests!(crate::cloud::Cloud);
