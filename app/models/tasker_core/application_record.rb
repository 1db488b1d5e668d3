# frozen_string_literal: true

module TaskerCore
  # The gem's rows, on the application's own connection. Read only: the SQL functions are the only writers.
  class ApplicationRecord < ActiveRecord::Base
    self.abstract_class = true

    # @yieldparam connection [ActiveRecord::ConnectionAdapters::AbstractAdapter] the application's, in its transaction
    def self.on_connection(&block)
      respond_to?(:with_connection) ? with_connection(&block) : yield(connection)
    rescue ActiveRecord::ConnectionNotEstablished, ActiveRecord::NoDatabaseError => e
      raise DatabaseError.new("the database cannot be used: #{e.message}")
    end

    def readonly? = true
  end
end
