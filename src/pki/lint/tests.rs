//! One seeded fault per rule.
