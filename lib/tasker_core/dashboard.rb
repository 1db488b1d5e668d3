# frozen_string_literal: true

module TaskerCore
  # The pages of the mounted engine, for operators: their queries and actions; controllers and views are in `app`. Lists
  # are read in pages, so that the cost of a page does not depend on the number of rows.
  #
  # @api private
  module Dashboard
  end
end
