//! kill -9 before and after every request that an operation makes, and a new life afterwards.

convoy_cloud_lab::crash_tests!(crate::aws::Aws);
