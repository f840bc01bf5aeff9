//! Attacks on the real kernel with the real binaries: each test is one hole that the design closes, tried the way
//! somebody would try it.

mod security {
    mod api;
    mod arp;
    mod attach;
    mod capacity;
    mod epoch;
    mod flood;
    mod full;
    mod host;
    mod intruder;
    mod leak;
    mod lifetime;
    mod maps;
    mod owner;
    mod place;
    mod port_sets;
    mod repair;
    mod start;
    mod talk;
    mod underlay;
}
