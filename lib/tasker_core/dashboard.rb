# frozen_string_literal: true

module TaskerCore
  # The pages of the mounted engine, for people who look after workflows. What they read and do is here, what they look like in
  # `app`. Whatever there is much of is read a page at a time, so that a page costs no more however much there is.
  module Dashboard
  end
end
