# frozen_string_literal: true

# Workflows of squares, told by step and parents.
class SquareWorkflow < TaskerCore::Workflow
  def self.squares(graph)
    input required: { n: :integer }
    graph.each { |name, parents| step name, depends_on: parents, handler: Square, config: { parents: parents } }
  end
end
