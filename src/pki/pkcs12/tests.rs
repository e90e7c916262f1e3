//! Files read back by hand.
