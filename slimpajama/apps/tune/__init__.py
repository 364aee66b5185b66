"""Tuning: a champion learns pairs, and summarises, translates and answers from then on."""
