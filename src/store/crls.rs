//! crls
