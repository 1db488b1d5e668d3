# frozen_string_literal: true

module TaskerCore
  module Generators
    # What the generators have in common: who is refused learns it from the exit status too, and what is generated gets its spec
    # or its test, whichever kind the application has.
    #
    # @api private
    module Generator
      def self.included(base)
        super
        base.define_singleton_method(:exit_on_failure?) { true }
      end

      private

      # Writes `spec.rb.tt` or `test.rb.tt`.
      # @param path [String] below spec or test, without an ending
      def generate_test(path, **config)
        kind = rspec? ? "spec" : "test"
        template "#{kind}.rb.tt", File.join(kind, "#{path}_#{kind}.rb"), config
      end

      def rspec? = File.directory?(File.join(destination_root, "spec"))
    end
  end
end
