# frozen_string_literal: true

module TaskerCore
  class Logging
    # A line that has its final form: {JsonFormatter} lets it be.
    #
    # @api private
    class Line < String
    end
  end
end
