//! Plans and answers over a catalogue made by hand.
