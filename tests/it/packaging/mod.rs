//! What we hand to others works: the sample configuration, the systemd unit, the container file.

mod sample;
mod units;
