# frozen_string_literal: true

class Line < SquareWorkflow
  squares a: [], b: [:a], c: [:b], d: [:c]
end
