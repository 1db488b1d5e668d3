# frozen_string_literal: true

module TaskerCore
  class Logging
    # A formatted line, which {JsonFormatter} writes unchanged.
    #
    # @api private
    class Line < String
    end
  end
end
