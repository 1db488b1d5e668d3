# frozen_string_literal: true

# A time as pages and explanations show it: with the date, unless it is today, which a test near midnight does not know.
SHOWN_TIME = /(?:20\d\d-\d\d-\d\d )?\d\d:\d\d:\d\d UTC/
