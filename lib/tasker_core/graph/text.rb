# frozen_string_literal: true

module TaskerCore
  class Graph
    # A graph for a terminal: the title, then a line for each step with its parents.
    #
    # @api private
    class Text
      DEEPEST = 30
      MOST_PARENTS = 8
      private_constant :DEEPEST, :MOST_PARENTS

      # @param node [Node]
      # @return [String] "  ✔ charge_card ← validate_order (complete, attempt 2)"
      def self.line(node)
        about = [node.state, *node.about].compact
        after = " ← #{parents(node)}" if node.dependencies.any?
        line = "#{MARKS.fetch(node.state, '·')} #{node.name}#{after}#{" (#{about.join(', ')})" if about.any?}" \
               "#{": #{node.error}" if node.error}"
        "#{'  ' * [node.level, DEEPEST].min}#{Support::VisibleText.line(line)}"
      end

      def self.parents(node)
        more = node.dependencies.size - MOST_PARENTS
        node.dependencies.first(MOST_PARENTS).join(", ") + (more.positive? ? " and #{more} more" : "")
      end
      private_class_method :parents

      # @param graph [Graph]
      def initialize(graph)
        @graph = graph
      end

      def to_s
        lines = @graph.nodes.map { |node| self.class.line(node) }
        [Support::VisibleText.line(@graph.title), *lines].join("\n") << "\n"
      end
    end
  end
end
