# frozen_string_literal: true

module TaskerCore
  # A line that has its final form: {JsonFormatter} lets it be.
  class LogLine < String
  end
end
